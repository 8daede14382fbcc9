"""The policy service: decides on plans with Cedar policies, collects approvals, signs what it permits."""
