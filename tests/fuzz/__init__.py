"""Odd inputs by the thousand, each made from a number: a result or one of our own errors is all that may come of them.

`test_fuzz.py` has a short round among the ordinary tests, and `make fuzz` (`__main__.py`) a long one. A target is a
function that makes the calls of one case; `outcomes` judges them.
"""
