"""The CustomResourceDefinitions as models, and the generator of their YAML."""
