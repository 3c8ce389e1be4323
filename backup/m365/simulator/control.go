package simulator

func (s *Simulator) controlRoutes() {}

func knownFault(string) bool { return true }
