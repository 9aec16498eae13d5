"""The peers' own names and behaviour, so that one changed import migrates a code base."""
