"""Pictures and tables that are made from the records alone. Equal records give equal bytes."""
