"""What command line tools share; ``--help`` and mistakes cost no heavy import."""

from fineclip.command_line.options import (
    ERRORS_EPILOG,
    ToolParser,
    add_cfg_options,
    add_config,
    add_device,
    add_experiment,
    add_images_and_names,
    add_key_values,
    add_launcher,
    add_scene_options,
    add_weights,
    check_launcher,
    check_out_file,
    integer_argument,
    positive,
    real_number,
)
from fineclip.command_line.reporting import progress_bar, report_error, silence_libraries

__all__ = [
    "ERRORS_EPILOG",
    "ToolParser",
    "add_cfg_options",
    "add_config",
    "add_device",
    "add_experiment",
    "add_images_and_names",
    "add_key_values",
    "add_scene_options",
    "add_launcher",
    "add_weights",
    "check_launcher",
    "check_out_file",
    "integer_argument",
    "positive",
    "real_number",
    "progress_bar",
    "report_error",
    "silence_libraries",
]
