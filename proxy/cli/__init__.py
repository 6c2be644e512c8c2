"""The commands, thin: they parse words, call the rooms behind them and print.

``main``     words to commands, failures to exit statuses
``output``   tables for people, JSON for programs
``checking`` ``check`` and ``schema``
``explaining`` ``explain``
``ledgers``  ``ledger list``, ``ledger show``, ``migrate``
"""
