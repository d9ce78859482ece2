"""Models that describe regions; :mod:`fineclip.annotation.interfaces` names them."""
