package simulator

func (s *Simulator) controlRoutes() {}
