"""Files and tables of business systems: invoices in UBL, rows of CSV and JSON lines, and where they come from."""
