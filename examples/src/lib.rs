//! Short programs, one idea each: see `src/bin`. Each begins with the command that runs it.
