"""The controller's side of a site: its profile, the transport to it, and the client of its agent."""
