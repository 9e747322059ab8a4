"""The data types: what each operation does to records and elements. No argv, no replies, no sockets."""
