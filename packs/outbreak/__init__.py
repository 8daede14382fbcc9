"""The outbreak pack: early warning in public health, from case counts to an alert that two people have approved."""
