"""What people use: the command line, and the site that `workmesh up` runs. It meets the rest on the bus."""
