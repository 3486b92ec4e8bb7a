"""Commands that people run at their own machine, with torch at hand."""
