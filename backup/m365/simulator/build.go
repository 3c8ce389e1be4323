package simulator

// build makes the state from the world.
func (s *Simulator) build() error { return nil }

// resume completes a state that was read from a file.
func (s *Simulator) resume() error { return s.resumeKeys() }

// DefaultWorld is the world of the demo.
func DefaultWorld() World { return World{} }

func (s *Simulator) appByID(appID string) *application { return nil }

func (t *tenant) principalOf(appID string) *principal { return nil }
