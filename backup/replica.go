package backup

import "time"

// Replica is a copy of the repository in another place: what is under way, and
// how the last copying ended.
type Replica struct {
	Place     string // folder or bucket, in words
	Running   bool
	StartedAt time.Time
	BeatAt    time.Time // last sign of life
	EndedAt   time.Time
	OKAt      time.Time // start of the last copying that came to its end: the copy has what was there then
	Objects   int64     // of the repository; 0 if not known yet
	There     int64     // of them, that the copy has
	Copied    int64     // by the newest copying
	Bytes     int64     // of the copied
	Damaged   int64     // packs that were damaged before they were copied
	Problem   Problem   // why the last one did not come to its end
}
