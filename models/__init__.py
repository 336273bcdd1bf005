"""The five reference models: each file holds a model, its recipes and a script; read any of them alone.

``RECIPES`` in each is plain data, the default recipe first. ``graphnet train NAME`` runs it; so does
``python -m graphnet.models.NAME``, which shows the loop that a user would write.
"""
