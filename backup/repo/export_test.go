package repo

// OnDisk lets note know what was synced.
func (d *Dir) OnDisk(note func(name string)) { d.onDisk = note }
