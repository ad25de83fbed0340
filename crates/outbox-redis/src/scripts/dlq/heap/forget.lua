-- Forgets subjects, drained or not.
-- ARGV: the subjects
for _, subject in ipairs(ARGV) do
  forget(subject)
end
