package testenv

import "time"

// Patience is how long a test waits in real time for what has to happen some day. It is
// no demand: what takes long on a machine that is busy with something else is right, and
// only what hangs is wrong.
const Patience = 4 * time.Minute
