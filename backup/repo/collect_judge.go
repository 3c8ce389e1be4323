package repo

import "context"

// decide returns what the log will say, the packs whose deletion it says
// already, and the objects of packs that were written.
func (k *collector) decide(ctx context.Context) (rec logRecord, again []logPack, moved []Object, err error) {
	if rec.Marked, err = k.mark(ctx); err != nil {
		return rec, nil, nil, err
	}
	var move []logPack
	for _, p := range k.order() {
		k.result.Packs++
		k.result.Bytes += k.packs[p]
		if k.log.released[p] {
			if stays, err := k.apart(ctx, p); err != nil {
				return rec, nil, nil, err
			} else if stays {
				k.condemned(p)
			} else {
				again = append(again, p)
			}
			continue
		}
		n, err := k.need(ctx, p)
		if err != nil {
			return rec, nil, nil, err
		}
		k.judge(p, n, &rec, &move)
	}
	if moved, err = k.move(ctx, move, &rec); err != nil {
		return rec, nil, nil, err
	}
	k.adopt(&rec)
	return rec, again, moved, nil
}

// judge decides about one pack.
func (k *collector) judge(p logPack, n need, rec *logRecord, move *[]logPack) {
	since, condemned := k.log.condemned[p]
	switch {
	case n.some() && condemned:
		rec.Spared = append(rec.Spared, p)
	case n.some():
		// One that nothing names is written anew so that the log names it.
		if n.little() || k.spare(p) || !n.unknown && k.log.of(k.named[p].Source).Erased {
			*move = append(*move, p)
			k.worth[p] = n.bytes
		}
	case condemned && k.began.Sub(since) >= Grace && len(rec.Deleted) < maxLogPack:
		rec.Deleted = append(rec.Deleted, p)
	case condemned:
		k.condemned(p) // and waits
	case len(rec.Condemned) < maxLogPack:
		k.condemn(p, rec)
	default:
		rec.Marked = false // the next collection goes on
	}
}

func (k *collector) condemn(p logPack, rec *logRecord) {
	rec.Condemned = append(rec.Condemned, p)
	k.result.Fresh++
	k.condemned(p)
}

func (k *collector) condemned(p logPack) {
	k.result.Condemned++
	k.result.Waiting += k.packs[p]
}

// adopt has the log name the packs that are needed and that only commits name
// which will be deleted. A commit waits for packs of it that are condemned,
// since they may be needed again, and for the next collection if its packs are
// too many.
func (k *collector) adopt(rec *logRecord) {
	condemned, deleted := map[logPack]bool{}, map[logPack]bool{}
	for p := range k.log.condemned {
		condemned[p] = true
	}
	for _, p := range rec.Condemned {
		condemned[p] = true
	}
	for _, p := range rec.Deleted {
		deleted[p] = true
	}
	ready := k.over[:0]
	for _, c := range k.over {
		var orphans []adopted
		waits := false
		for _, p := range c.packs {
			name := logPack{p.ID, p.Kind}
			_, there := k.packs[name]
			switch {
			case !there || k.kept[name] || deleted[name] || k.log.released[name]:
			case condemned[name]:
				waits = true
			default:
				orphans = append(orphans, adopted{p, c.source})
			}
		}
		if waits || len(rec.Adopted)+len(orphans) > maxLogPack {
			continue
		}
		ready = append(ready, c)
		for _, a := range orphans {
			rec.Adopted, k.kept[logPack{a.Pack.ID, a.Pack.Kind}] = append(rec.Adopted, a), true
		}
	}
	k.over = ready
}
