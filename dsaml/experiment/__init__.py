"""Recipes, trained models, tables and claims: everything that ends in a result file."""
