"""What graphnet is measured beside: one module for each library, each with the same few models.

``cases`` says what is computed, ``worker`` is the process that computes it, ``registry`` lists who takes part.
Nothing here but ``with_graphnet`` imports graphnet: a worker runs in whichever Python has its library.
"""
