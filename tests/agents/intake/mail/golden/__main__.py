"""Write the golden files anew."""

from tests.agents.intake.mail.golden import main

main()
