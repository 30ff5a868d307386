"""The listening study: designed, run in the browsers of a class or of participants, exported, analysed."""
