"""The directory: the operator's own records of people, in a SQLite file of its own, asked without any network.

    settings    what an operator may set: DirectorySettings, Rules
    loading     a file -> the directory: preview, load, LoadReport
      reading     rows out of CSV, TSV and JSON lines, however broken
      mapping     which column is what: guess_mapping
      records     what a row becomes
    database    the file itself: schema, opening, stats
    lookup      who could be meant, and who belongs in a list
    matching    who of them is a match: the rules by which a caller pays
    listing     what a list is made by, and where a page of it ended
    names, places, phones    what these are, written in many ways
    invented    people for the demo

Nothing is imported here: loading belongs to the command line, and a gateway at rest should not carry it.
"""
