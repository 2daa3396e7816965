"""The parts of report.html: charts, tables, completions, and the page around them."""
