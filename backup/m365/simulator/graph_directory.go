package simulator

import "net/http"

func (s *Simulator) directoryRoutes() {}

func (s *Simulator) batch(w *answer, r *http.Request, c *caller) {}
