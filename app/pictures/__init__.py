"""Pictures: samples, curves, tables. The only folder that imports matplotlib."""
