"""The command line, `ganrt`: one thin command per verb. Nothing imports it."""
