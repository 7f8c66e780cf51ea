//! The proof of the record, without the stack: leaves, tree, checkpoints, the rules that a record must keep, and the files that carry it.
