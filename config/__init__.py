"""A plant as YAML: schema, loader, and the plants that ship with the product."""
