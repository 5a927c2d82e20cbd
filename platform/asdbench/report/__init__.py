"""Tables of results. Reads stored records, computes nothing anew and imports no cluster, tracker or torch."""
