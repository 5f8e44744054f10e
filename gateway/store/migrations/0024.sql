-- Of a session, each answer that it was made of can be given again: which of its charge's vendors have found it.

ALTER TABLE answers ADD COLUMN hop TEXT NOT NULL DEFAULT ''; -- what their hops begin with; '': all of them
