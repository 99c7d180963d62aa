package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"kvstore/internal/problem"
)

// sameOrigin keeps the pages of other sites from writing through the browser of
// somebody who can reach the service: a form may send what a bare curl -d does. What
// is no browser sends neither Origin nor Sec-Fetch-Site, and passes.
func (a *API) sameOrigin(protection *http.CrossOriginProtection) gin.HandlerFunc {
	return func(c *gin.Context) {
		if protection.Check(c.Request) == nil {
			return
		}
		a.writeError(c, problem.New(http.StatusForbidden, "cross_origin",
			"The request comes from a page of another origin, which may not change anything here"))
		c.Abort()
	}
}
