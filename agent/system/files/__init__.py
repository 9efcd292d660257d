"""Files: read below a watched folder, replaced, kept, put together, watched. No part of a path is a link."""
