"""Lists of people who write to each other: `members` is who belongs to them and writes, `digest` what comes daily,
`pages` how one leaves by a click."""
