"""All of the service on one machine: real servers as child processes, supervised."""
