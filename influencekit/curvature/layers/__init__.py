"""Curvatures by layers: DataInf and LoGra."""
