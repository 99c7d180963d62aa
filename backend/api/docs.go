package api

import (
	"net/http"

	"github.com/gin-gonic/gin"
	swaggerfiles "github.com/swaggo/files"
	ginswagger "github.com/swaggo/gin-swagger"

	"kvstore/backend/docs"
	"kvstore/internal/problem"
)

//	@title			Versioned key-value store
//	@version		1.0
//	@description	A key-value store that keeps every version of every key. Errors are `application/problem+json` (RFC 9457);
//	@description	`code` is stable. Every answer carries `X-Request-Id`.
//	@license.name	MIT
//	@BasePath		/

// openAPI serves the document that is generated from the annotations.
//
//	@Summary	The OpenAPI document
//	@Tags		operation
//	@Produce	json
//	@Success	200	{object}	object
//	@Router		/openapi.json [get]
//	@Router		/openapi.json [head]
func (a *API) openAPI(c *gin.Context) error {
	writeBody(c, docs.OpenAPI)
	return nil
}

// docsIndex leads to the page of the Swagger UI.
//
//	@Summary	The Swagger UI of this document
//	@Tags		operation
//	@Produce	html
//	@Success	307	{string}	string	"The page is /docs/index.html"
//	@Router		/docs [get]
//	@Router		/docs [head]
func (a *API) docsIndex(c *gin.Context) error {
	c.Redirect(http.StatusTemporaryRedirect, "/docs/index.html")
	return nil
}

// swaggerUI serves the page and its files. The library refuses HEAD, for which a GET does as
// well, since the server sends no body.
//
//	@Summary	The files of the Swagger UI
//	@Tags		operation
//	@Produce	html
//	@Param		file	path	string	true	"The name of the file"	example(index.html)
//	@Success	200	"The file"
//	@Success	307	"/docs/ leads to the page"
//	@Failure	404	{object}	problem.Problem	"There is no such file (code not_found)"
//	@Router		/docs/{file} [get]
//	@Router		/docs/{file} [head]
func (a *API) swaggerUI() gin.HandlerFunc {
	serve := ginswagger.WrapHandler(swaggerfiles.Handler, ginswagger.URL("/openapi.json"))
	return func(c *gin.Context) {
		switch file := c.Param("any"); {
		case file == "/":
			c.Redirect(http.StatusTemporaryRedirect, "/docs/index.html")
			return
		case file == "/doc.json": // where the library would serve a document of its own
			writeBody(c, docs.OpenAPI)
			return
		case !isFile(c, file):
			a.writeError(c, problem.New(http.StatusNotFound, "not_found", "There is no such file; the page is /docs"))
			return
		}
		c.Request.Method = http.MethodGet
		serve(c)
	}
}

func isFile(c *gin.Context, name string) bool {
	_, err := swaggerfiles.FS.Stat(c.Request.Context(), name)
	return err == nil
}
