"""E-mail: messages read into plain values, and the mailboxes that they come from."""
