"""Who spends what: the book of costs, budgets over days and months, and their alerts."""
