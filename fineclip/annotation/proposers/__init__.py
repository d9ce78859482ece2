"""Models that find boxes; :mod:`fineclip.annotation.interfaces` names them."""
