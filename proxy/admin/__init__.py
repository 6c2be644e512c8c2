"""The ledger for people, and what a proxy tells about itself, on a listener of its own.

``service``   what can be asked of the ledger: one module behind the API and the commands
``query``     a listing's filters, read from text
``shapes``    entries as JSON
``app``       the HTTP side; ``access``: who may ask; ``visitors``: which requests are answered at all
"""
