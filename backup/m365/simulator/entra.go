package simulator

func (s *Simulator) entraRoutes() {}
