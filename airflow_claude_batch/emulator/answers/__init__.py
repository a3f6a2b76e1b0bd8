"""Made-up answers: what becomes of each request, its text, its usage."""
