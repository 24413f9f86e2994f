"""Adapters from models that hold other models to Tasks."""
