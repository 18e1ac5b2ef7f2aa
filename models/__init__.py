"""The language everything else speaks: words, messages, reports, errors, lifecycle, tables, settings, history."""
