"""Pictures of your own, of any one size: models of others, judged beside real pictures that you bring."""
