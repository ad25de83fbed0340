-- Removes what every group has read and settled, and nothing else.
-- ARGV: group, now
-- Answers how many entries went.
return trim()
