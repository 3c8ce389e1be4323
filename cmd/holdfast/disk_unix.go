//go:build unix

package main

import "syscall"

// diskOf returns the bytes that the file system of a folder has free and in all,
// 0 if it can't be asked.
func diskOf(folder string) (free, total int64) {
	var st syscall.Statfs_t
	if syscall.Statfs(folder, &st) != nil {
		return 0, 0
	}
	size := int64(st.Bsize)                                 //nolint:gosec,unconvert // its type differs between systems
	return int64(st.Bavail) * size, int64(st.Blocks) * size //nolint:gosec,unconvert // fits
}
