from solon.rows import *  # noqa: F403
