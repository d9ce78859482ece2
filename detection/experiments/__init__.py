"""What is measured about detectors: time per stage, and novel classes from different CLIPs."""
