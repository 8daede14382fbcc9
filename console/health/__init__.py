"""How a site is: ``workmesh status`` shows it, ``workmesh doctor`` judges it and says how to mend what is wrong."""
